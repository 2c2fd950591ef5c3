"""Neural architecture search by predicted properties."""
