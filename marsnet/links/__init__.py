"""Link physics: the delay line, its control interface and its Mininet link."""
