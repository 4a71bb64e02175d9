"""Single models: trained, evaluated, found by name, used on files."""
