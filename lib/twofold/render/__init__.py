# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the nodes' programs read: libvirt's XML, DRBD's configuration, cloud-init's data. Pure and deterministic."""
