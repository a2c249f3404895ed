"""The revisions, oldest first; see `components.migrations`."""
