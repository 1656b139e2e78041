"""What is said in the sample calls. All of it is invented; the numbers are reserved for fiction."""

from typing import NamedTuple


class Job(NamedTuple):
    """One thing that the caller of the long call wants done: asked, answered with date and dollars, replied."""

    thing: str
    when: str
    price: int
    ask: str
    answer: str
    reply: str


HARBOUR = (
    "Good morning, harbour desk. How can I help?",
    "Hello, this is Robin. I heard that you are dredging, and my boat Kittiwake lies right there, at berth B14.",
    "Yes, Robin. We can move your boat to berth C3 on Thursday at nine in the morning.",
    "Thursday at nine suits me. My brother will bring the keys, and please mind the new paint.",
    "We will use soft fenders. The bigger berth costs forty dollars more until the end of the month.",
    "That is fine, thank you.",
    "Done, then. Goodbye, Robin!",
)
WEBSITE = (
    "Welcome to the chandlery. What are you looking for?",
    "Do you ship abroad? I need thirty metres of mooring rope in Norway.",
    "We do: a parcel to Norway takes six days, and rope costs four dollars a metre.",
    "Lovely, I will order it tonight.",
    "Thank you, and fair winds.",
)
CHARTER = (
    "Good afternoon, charter office. What may I plan for you?",
    "Noor Castell here. We want to celebrate my mother's seventieth birthday on the schooner Halcyon.",
    "What a lovely idea. How many guests would come aboard, and on which day?",
    "Twenty-six guests, on the last Saturday in August, from noon until sunset.",
    "The schooner is free that day. She anchors in the bay for swimming, if the wind allows.",
    "Two of the guests cannot eat fish. Please give them another meal.",
    "Then there will be mushroom risotto for those two, and grilled bream for all the others.",
    "A string quartet would like to play as well. Is there room for a cello?",
    "There is, under the awning behind the main mast. I send you the contract today.",
)
LIGHTHOUSE = (
    "Good evening, lighthouse museum. How can I help?",
    "Hi, it is Yara. When does the guided tour of the lighthouse begin on Sunday?",
    "The tour begins at two o'clock, at the iron door. It climbs two hundred steps.",
    "Please put down two adults and one child for it.",
    "Three places are yours, Yara. Wear shoes that do not slip.",
)
JOBS = (
    Job("lifting the boat", "October the fifth", 310,
        "Hello, Marlow Finch here. My sloop Petrel should come out of the water before the storms.",
        "The crane lifts boats on Mondays, and Petrel is short enough for the small slings.",
        "Good. I will bring her to the quay the evening before, at high tide."),
    Job("washing the hull", "October the sixth", 95,
        "There are a lot of barnacles and weed below the waterline this year.",
        "We would scrape them and pressure-wash the hull as soon as she hangs in the slings.",
        "Please be gentle around the log and the depth sounder."),
    Job("the winter shed", "October the seventh", 1240,
        "Can she stand under a roof until spring, rather than out in the yard?",
        "One place is left in the heated shed, between two motor boats, until the end of April.",
        "Then I take it, last winter the snow broke my cover."),
    Job("the mast", "October the eighth", 180,
        "The mast has to come down for that, I suppose.",
        "Our riggers take it down and store it on trestles, with the shrouds labelled.",
        "The windvane at the top is brittle, so somebody should unscrew it first."),
    Job("engine oil", "October the ninth", 140,
        "Would you change the oil and the filters of the diesel engine?",
        "The mechanic drains the oil while it is warm, and changes both fuel filters.",
        "She smoked a little in August, so have him look at the injectors too."),
    Job("frost protection", "October the tenth", 60,
        "I am worried about ice in the cooling system and in the fresh water tank.",
        "We flush the cooling with antifreeze, and blow the water pipes dry.",
        "Remember the shower pump, it froze and cracked two years ago."),
    Job("the batteries", "October the twelfth", 45,
        "The batteries were flat in the morning more than once.",
        "We would test them under load, and keep them charged on the bench through the winter.",
        "If the starter battery fails the test, just order another."),
    Job("a new mainsail", "January the twentieth", 2350,
        "My mainsail is baggy, and I think that I need a new one with three reefs.",
        "The sailmaker cuts it from heavy cloth, and comes to measure the boom himself.",
        "Tanbark red, please, like the old one; my daughter insists."),
    Job("the torn genoa", "November the third", 210,
        "The genoa tore along the foot when we tacked too late in a squall.",
        "A patch along the foot and a new strip against sunlight will do.",
        "And the luff tape is fraying, perhaps she can sew that as well."),
    Job("the rudder", "November the tenth", 390,
        "The rudder knocks when we run downwind.",
        "That sounds like a worn bearing: the rudder must come off, and the bush is turned anew.",
        "It has been knocking since we touched a rock near the lighthouse."),
    Job("antifouling paint", "April the second", 420,
        "In spring she needs antifouling again, two coats.",
        "We sand the old paint and roll on two coats of the copper-free one.",
        "Blue, as before, and a third coat at the leading edge."),
    Job("the teak deck", "February the ninth", 860,
        "Some of the seams in the teak deck leak onto my bunk.",
        "The carpenter would rake out the bad seams and fill them with new compound.",
        "The worst one is right above the chart table, on the port side."),
    Job("the galley stove", "February the sixteenth", 275,
        "I smelled gas near the stove in the galley, so I shut the bottle.",
        "That was right. A gas fitter renews the hose and the regulator, and gives you a certificate.",
        "My insurer wants to see that certificate anyway."),
    Job("the life raft", "March the second", 330,
        "When is the life raft due for its inspection?",
        "It is due this March: the station inflates it, checks the flares and packs it again.",
        "Four persons, it has always been enough for us."),
    Job("the radio", "March the fourth", 150,
        "On the radio nobody hears me beyond two miles.",
        "Probably the antenna cable is corroded at the foot of the mast, and we would lay another.",
        "I would like to talk to the coastguard from the outer islands."),
    Job("the navigation lights", "March the fifth", 110,
        "The green light at the bow goes out whenever we heel.",
        "The electrician replaces the lamp holders and fits bulbs that save power.",
        "We sail at night in June, so it matters."),
    Job("the anchor chain", "March the eleventh", 265,
        "The anchor chain is rusty and slips over the windlass.",
        "Forty metres of new galvanised chain would fit, marked with paint at every ten.",
        "Keep the anchor, it has never dragged."),
    Job("the dog's ladder", "March the sixteenth", 85,
        "It may sound odd, but our old dog no longer climbs aboard by himself.",
        "The carpenter makes gangways with cleats for paws, and they fold away.",
        "He is a heavy spaniel called Bosun, so make it stout."),
    Job("the insurance survey", "April the ninth", 480,
        "My insurance asks for a surveyor's report every ten years.",
        "An independent surveyor looks at the hull and rig while she is still ashore.",
        "He can send his report straight to the insurance company."),
    Job("launching", "April the twentieth", 310,
        "And when could she go back into the water?",
        "At spring tide the crane is free in the afternoon, and the mast goes up on the same day.",
        "Wonderful. We want to reach the islands before May, then that is all, goodbye!"),
)  # fmt: skip
