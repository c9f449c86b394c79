//! Tests of the layer without a device, and with whatever device there is.
