"""What the training is measured against."""
