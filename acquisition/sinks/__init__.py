"""Where results go: published, recorded, counted, or turned into moves of the stage."""
