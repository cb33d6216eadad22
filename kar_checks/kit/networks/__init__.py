"""Secondary networks: which there are, what is free of them, and pods of ours on one of them."""
