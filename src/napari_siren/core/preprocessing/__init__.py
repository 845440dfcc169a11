"""What is done to an image before it is fitted: images from their derivatives."""
