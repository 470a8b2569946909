"""Studies on EFS: demand them, reach them through TLS, say what is wrong while they are away."""
