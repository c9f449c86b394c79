//! Quantized block formats, one file a format.
