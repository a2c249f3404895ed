"""Provenance of generated images: metadata in their files, and signed manifests."""
