"""What can go wrong at the door. Every message is one line: what was expected, what was found, what to do."""


class MouthpieceError(Exception):
    """Base of all errors that a user can mend; its text is shown as it is, without a traceback."""


class AvatarError(MouthpieceError):
    """An avatar pack is missing, damaged, or not what its manifest says."""


class ControlError(MouthpieceError):
    """A control, such as an emotion or a pose, is not understood or out of range."""


class BackendError(MouthpieceError):
    """A graph cannot run here on the back end that was asked for."""


class AudioError(MouthpieceError):
    """A sound file or device cannot be read."""


class OutputError(MouthpieceError):
    """A recording, camera or picture cannot be written."""
