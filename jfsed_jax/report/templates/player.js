// A cursor that follows a sound, and where in a picture a pointer is: for every page with a player.
"use strict";

// Calls `moved` at every frame while it plays, and when it was moved.
function follow(audio, moved) {
  let next = 0;
  const tick = () => {
    moved();
    cancelAnimationFrame(next); // whoever calls, one frame is waited for
    if (!audio.paused) next = requestAnimationFrame(tick);
  };
  for (const name of ["play", "pause", "seeked", "timeupdate"]) audio.addEventListener(name, tick);
}

// How far to the right in the element, from 0 to 1.
function share(event, element) {
  const { left, width } = element.getBoundingClientRect();
  return Math.max(0, Math.min((event.clientX - left) / width, 1));
}

