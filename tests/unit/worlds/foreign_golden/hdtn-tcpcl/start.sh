#!/bin/sh
cd /var/lib/marsnet || exit 1
exec hdtn-one-process --hdtn-config-file=/etc/marsnet/hdtn.json --contact-plan-file=/etc/marsnet/contacts.json
