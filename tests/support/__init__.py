"""What the tests share: tiny real models, training sets, engines, the command line."""
