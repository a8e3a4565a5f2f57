"""How numbers are stored: integers with scales, codes packed into bits."""
