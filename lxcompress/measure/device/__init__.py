"""The bench on another device: its profile, and the commands sent to it through adb."""
