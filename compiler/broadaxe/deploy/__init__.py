"""Files that bring a design onto a board: what stands under deploy/ in a build folder."""
