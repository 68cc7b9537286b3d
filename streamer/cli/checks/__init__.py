"""What `streamer doctor` looks at, one module for each thing that streamer relies on."""
