"""Runs inside the landmarks environment (mediapipe 0.10.21, numpy < 2): pictures come in on stdin, faces go out on stdout.

Imports nothing of this project, because that environment does not hold it. The messages, little endian:
in   one byte (B boxes, M mesh, A matte, R forget the last face), uint32 height, uint32 width, height * width * 3 RGB
out  uint32 rows, uint32 columns, rows * columns float32; B: rows of (x, y, w, h, score) in pixels; M: 478 rows of
     (x, y, z) in pixels, or none; A: the picture's height and width, 0..1
The first answer, before anything is asked, is one row with the protocol's number.
"""

import os
import struct
import sys

PROTOCOL = 1
MESH_POINTS = 478


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # mediapipe's C++ prints where it likes; stdout belongs to the answers
    import mediapipe
    import numpy as np

    faces = mediapipe.solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.5)
    near = mediapipe.solutions.face_detection.FaceDetection(model_selection=0, min_detection_confidence=0.5)
    mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=False, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.4
    )
    person = None

    def answer(rows):
        rows = np.ascontiguousarray(rows, np.float32)
        answers.write(struct.pack("<II", *rows.shape) + rows.tobytes())
        answers.flush()

    def boxes(picture):
        height, width = picture.shape[:2]
        found = faces.process(picture).detections or near.process(picture).detections or []
        rows = [(d.location_data.relative_bounding_box, d.score[0]) for d in found]
        return [(b.xmin * width, b.ymin * height, b.width * width, b.height * height, s) for b, s in rows]

    def points(picture):
        height, width = picture.shape[:2]
        found = mesh.process(picture).multi_face_landmarks
        if not found:
            return np.zeros((0, 3))
        return [(p.x * width, p.y * height, p.z * width) for p in found[0].landmark]

    answer([[PROTOCOL]])
    while True:
        head = sys.stdin.buffer.read(9)
        if len(head) < 9:
            return
        what, (height, width) = head[:1], struct.unpack("<II", head[1:])
        data = sys.stdin.buffer.read(height * width * 3)
        if len(data) < height * width * 3:
            return
        picture = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        if what == b"B":
            answer(np.reshape(boxes(picture), (-1, 5)))
        elif what == b"M":
            answer(points(picture))
        elif what == b"A":
            if person is None:
                person = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            answer(person.process(picture).segmentation_mask)
        else:
            mesh.reset()
            answer(np.zeros((0, 1)))


if __name__ == "__main__":
    main()
