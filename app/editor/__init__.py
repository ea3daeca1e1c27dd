"""Working on transforms, as the JSON API and the pages offer it: what is there, what a draft would do, publishing."""
