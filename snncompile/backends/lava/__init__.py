"""The Lava guest: emit a runner that needs only numpy and lava-nc, and run it in a supervised process of its own."""
