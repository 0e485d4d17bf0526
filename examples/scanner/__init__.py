"""A scanner of three services, before and after it moved over to snapdelta: see README.md in this folder."""
