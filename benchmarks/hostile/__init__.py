"""What hostile or unlucky requests, and failures beside the service, do to it."""
