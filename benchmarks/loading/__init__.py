"""What preparation is measured against, and how."""
