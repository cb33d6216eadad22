"""What every topic needs and none owns: verdicts and their words, and the spine of the judges."""
