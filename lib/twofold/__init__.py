# Copyright: The Twofold developers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Twofold: the control-side library of the twofold.cluster collection."""
