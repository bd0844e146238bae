"""What `identity-server doctor` looks at, one module per side of the server."""
