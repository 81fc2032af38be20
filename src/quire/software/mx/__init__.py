"""Block formats with E8M0 scales (MXInt, MXFP) on a device: layout, ops, and the linear layer."""
