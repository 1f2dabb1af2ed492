"""What an edge does to packets at a given load: links, schedulers, stations, cells, traffic that yields."""
