"""What the commands do. These modules may import the whole compiler; they are loaded when a command runs."""
