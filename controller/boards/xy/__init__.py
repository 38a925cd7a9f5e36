"""XY, the FA FB protocol of a board that polls its host every 200 ms."""
