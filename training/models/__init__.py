"""Networks: streaming blocks, the audio encoder, the talker and the face that they drive."""
