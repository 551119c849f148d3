"""Small random graphs, run on shares and held against double precision."""
