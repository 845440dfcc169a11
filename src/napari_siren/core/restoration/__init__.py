"""What is learned of an image before tiles are fitted: detail, noise, blur, drift."""
