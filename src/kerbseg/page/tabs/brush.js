// A round brush over the picture: what it covers is drawn at once; the server paints the labels when it is lifted.
let stroke = null;

const place = (event, image) => {
  const box = image.getBoundingClientRect();
  const scale = image.naturalWidth / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
};

const draw = () => {
  const pen = stroke.canvas.getContext("2d");
  pen.lineWidth = 2 * props.radius;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = props.color;
  pen.beginPath();
  pen.moveTo(...stroke.points[0]);
  stroke.points.forEach((point) => pen.lineTo(...point)); // a single point is a line to itself: a disk
  pen.stroke();
};

element.addEventListener("pointerdown", (event) => {
  const image = element.querySelector("img");
  if (!image || event.button !== 0 || event.target !== image) return;
  event.preventDefault();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  image.after(canvas);
  stroke = { image, canvas, points: [place(event, image)] };
  draw();
});

window.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  stroke.points.push(place(event, stroke.image));
  draw();
});

const lift = () => {
  if (!stroke) return;
  const points = stroke.points;
  stroke = null;
  trigger("stroke", { points, radius: props.radius });
};
window.addEventListener("pointerup", lift);
window.addEventListener("pointercancel", lift);
