"""Where pictures come from, said in their files: marks of what made them, and signed manifests."""
