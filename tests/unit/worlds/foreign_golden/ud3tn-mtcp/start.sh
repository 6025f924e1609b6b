#!/bin/sh
# Contacts are told over AAP 2.0: seconds from now, duration, bytes per second, and whom the neighbour reaches.
ud3tn --node-id ipn:2.0 --aap2-socket /run/ud3tn.aap2.socket \
  --cla "sqlite:/var/lib/marsnet/ud3tn.sqlite;mtcp:10.77.0.2,4224" --external-dispatch &
daemon=$!
trap 'kill $daemon; wait $daemon; exit 0' TERM
while [ ! -S /run/ud3tn.aap2.socket ]; do kill -0 $daemon || exit 1; sleep 0.1; done
aap2-bdm-ud3tn-routing --socket /run/ud3tn.aap2.socket &
aap2-config --socket /run/ud3tn.aap2.socket \
  --schedule 60 540 125000 \
  ipn:1.0 mtcp:10.77.0.1:16162 || exit 1
aap2-config --socket /run/ud3tn.aap2.socket \
  --schedule 1200 2400 125000 \
  ipn:1.0 mtcp:10.77.0.1:16162 || exit 1
aap2-config --socket /run/ud3tn.aap2.socket \
  --schedule 60 540 250000 \
  --reaches ipn:4.0 \
  ipn:3.0 mtcp:10.77.0.3:16162 || exit 1
aap2-config --socket /run/ud3tn.aap2.socket \
  --schedule 1200 2400 250000 \
  --reaches ipn:4.0 \
  ipn:3.0 mtcp:10.77.0.3:16162 || exit 1
echo "ud3tn ready"
wait $daemon
