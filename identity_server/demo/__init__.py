"""The whole system on loopback, a tour of it, and an inbox for what it sends."""
