"""What kiln-health and kiln-drain both know of this instance: its server, its metadata, and how AWS is
told."""
