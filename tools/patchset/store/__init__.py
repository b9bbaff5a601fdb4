"""Git objects: the one door to git. Every git process of the tool starts here."""
