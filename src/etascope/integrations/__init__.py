"""Other frameworks, one thin file each; nothing in etascope leans on them. Importing this loads none of them."""
