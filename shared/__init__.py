"""What two parts must agree on."""
