import "./style.css";
import { createRoot } from "react-dom/client";
import { samples } from "./samples";
import { type Credentials, type Leaving, signIn } from "./session";
import { SignIn } from "./sign-in";

const NOTICES: Record<Leaving, string> = {
  "signed-out": "You are signed out.",
  expired: "Your session has ended. Please sign in again.",
};

const root = createRoot(document.body.appendChild(document.createElement("div")));
const explorer = import("./explorer"); // loads while the form is filled in

async function open(credentials: Credentials) {
  const viewer = await signIn(credentials);
  const [tabs, { Explorer }] = await Promise.all([samples(viewer.hospital.today), explorer]);
  root.render(<Explorer viewer={viewer} tabs={tabs} />);
}

const notice = NOTICES[location.hash.slice(1) as Leaving];
history.replaceState(null, "", location.pathname);
root.render(<SignIn notice={notice} onSignIn={open} />);
