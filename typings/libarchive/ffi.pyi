import ctypes

libarchive: ctypes.CDLL
