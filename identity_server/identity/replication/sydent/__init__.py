"""Replicating with peers that run Sydent: their wire, their mutual TLS, both ways."""
