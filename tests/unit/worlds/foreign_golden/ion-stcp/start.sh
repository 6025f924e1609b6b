#!/bin/sh
# ION writes ion.log into the folder that it is started in; the image's own file system is read-only.
cd /var/lib/marsnet || exit 1
ionstart -I /etc/marsnet/node.rc || exit 1
echo "ion ready"
trap 'ionstop; exit 0' TERM
tail -f ion.log &
wait $!
