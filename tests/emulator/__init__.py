"""AWS on this machine: moto, extended where it is missing or wrong; each extension is held against
botocore's model."""
