"""A page with Streamlit: the picture with the faces in it, and how many there are.

pip install streamlit, and then streamlit run examples/streamlit_app.py. Needs a broadcaster at ws://localhost:8081/ws;
SYNOPTICON_URL names another server.
"""

import os

import numpy as np
import streamlit as st

from synopticon_rtc import draw_faces, sync

URL = os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")


@st.cache_resource(on_release=lambda receiver: receiver.close())  # one for all who have the page open
def receive() -> sync.Receiver:
    return sync.Receiver(URL).start()


@st.fragment(run_every=0.1)  # seconds
def newest() -> None:
    try:
        moment = receive().read(timeout=5)
    except TimeoutError:
        st.info(f"Nobody broadcasts at {URL} yet.")
        return
    image = np.asarray(moment.frame.to_ndarray(format="bgr24"), np.uint8)
    st.image(draw_faces(image, moment.faces), channels="BGR")
    st.metric("Faces", len(moment.faces))


st.title("Who is there")
newest()
