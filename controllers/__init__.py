"""OpenFlow 1.3 controllers that execute the contact plan; they run on os-ken and, unchanged, on Ryu."""
