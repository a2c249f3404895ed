"""The browser studio: its source, and below `dist` the built page, which the service reads from here."""
