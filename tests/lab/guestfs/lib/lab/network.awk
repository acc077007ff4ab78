# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
# Turns a cloud-init network-config (block YAML, version 1 or 2; lists in either style) into commands.
function clean(text) {
    gsub(/["',{}]/, "", text)
    gsub(/\[|\]/, " ", text)
    gsub(/^[ \t]+|[ \t]+$/, "", text)
    return text
}
function flush_interface(    command, count, parts, i) {
    if (!started) return
    command = "dev=" (mac != "" ? "$(grep -lix '" mac "' /sys/class/net/*/address | head -n 1 | cut -d/ -f5)" : name)
    print command
    print "if [ -n \"$dev\" ]; then"
    if (mtu != "") print "ip link set $dev mtu " mtu
    print "ip link set $dev up"
    count = split(addresses, parts, " ")
    for (i = 1; i <= count; i++) print "ip address add " parts[i] " dev $dev"
    count = split(gateways, parts, " ")
    for (i = 1; i <= count; i++) print "ip route add default via " parts[i] " dev $dev"
    if (dhcp) print "udhcpc -b -t 30 -T 1 -s /etc/udhcpc/script -i $dev > /dev/null 2>&1 &"
    print "fi"
}
function begin(text) {
    flush_interface()
    started = 1
    name = text
    mac = addresses = gateways = mtu = ""
    dhcp = 0
}
function take(key, text,    count, parts, i) {
    if (key == "macaddress" || key == "mac_address") mac = tolower(text)
    if (key == "match" && text ~ /^macaddress: /) mac = tolower(substr(text, 13))
    if (key ~ /^(routes|to)$/ && match(text, /via: [^ ]+/)) gateways = gateways " " substr(text, RSTART + 5, RLENGTH - 5)
    if (key == "mtu") mtu = text
    if (key == "name" && version == 1) name = text
    if (key ~ /^(gateway|gateway4|gateway6|via)$/) gateways = gateways " " text
    if ((key == "dhcp4" && text ~ /^(true|yes)$/) || (key == "type" && text ~ /^dhcp4?$/)) dhcp = 1
    if (key == "addresses" || key == "address" || key == "item") {
        count = split(text, parts, " ")
        for (i = 1; i <= count; i++) if (parts[i] ~ /^[0-9a-fA-F.:]+\/[0-9]+$/) addresses = addresses " " parts[i]
    }
}
/^[ \t]*#/ { next }
/^[] \t[{},]*$/ { next }
{
    match($0, /^[ ]*/)
    indent = RLENGTH
    line = substr($0, indent + 1)
    item = 0
    while (line ~ /^- /) { item = 1; line = substr(line, 3); indent += 2 }
    key = value = ""
    # A key ends with a colon and a space, or a colon at the end: addresses and MACs have colons too.
    if (match(line, /:( |$)/)) {
        key = clean(substr(line, 1, RSTART - 1))
        value = clean(substr(line, RSTART + 1))
    } else {
        key = "item"
        value = clean(line)
    }
    if (key == "version") { version = value + 0; next }
    if (key == "ethernets") { section = indent; children = -1; inside = 1; next }
    if (inside && indent <= section) inside = 0
    if (inside && children < 0) children = indent
    if (inside && indent == children) { begin(key); next }
    if (item && key == "type" && value == "physical") { version = 1; begin(""); next }
    if (key == "nameservers") { skip = indent; skipping = 1; next }
    if (skipping && indent > skip) next
    skipping = 0
    if (key == "item" && list == "addresses") { take("item", value); next }
    list = key
    take(key, value)
}
END { flush_interface() }
