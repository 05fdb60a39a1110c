"""Where trained weights come from, and how they get into a backbone."""
