"""What the pages say, in each language.

``{server}`` stands for the server's name, ``{host}`` for where a link leads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Medium = Literal["email", "msisdn"]
Reason = Literal["incorrect", "expired", "unknown", "too_often"]


@dataclass(frozen=True)
class Confirm:
    title: str
    lead: str
    button: str
    aside: str


@dataclass(frozen=True)
class Verified:
    title: str
    lead: str


@dataclass(frozen=True)
class Failed:
    title: str
    lead: str
    next_step: str


@dataclass(frozen=True)
class Wording:
    confirm: Mapping[Medium, Confirm]
    verified: Mapping[Medium, Verified]
    failed: Mapping[Medium, Mapping[Reason, Failed]]
    close_page: str
    continue_button: str
    continue_host: str
    next_step_heading: str
    footer: str


WORDING: Mapping[str, Wording] = {
    "en": Wording(
        confirm={
            "email": Confirm(
                title="Confirm your email address",
                lead="{server} was asked to check that an email address is yours. "
                "This link was sent to it. One click, and you are done.",
                button="Confirm email address",
                aside="You did not ask for this? Close this page. Nothing is confirmed unless you press the button.",
            ),
            "msisdn": Confirm(
                title="Confirm your phone number",
                lead="{server} was asked to check that a phone number is yours. "
                "This link was sent to it. One click, and you are done.",
                button="Confirm phone number",
                aside="You did not ask for this? Close this page. Nothing is confirmed unless you press the button.",
            ),
        },
        verified={
            "email": Verified(
                title="Email address confirmed",
                lead="Thank you. {server} now knows that this email address is yours.",
            ),
            "msisdn": Verified(
                title="Phone number confirmed",
                lead="Thank you. {server} now knows that this phone number is yours.",
            ),
        },
        failed={
            "email": {
                "incorrect": Failed(
                    title="This link does not match",
                    lead="The code in it is not the one that {server} sent. Your email address is not confirmed yet.",
                    next_step="Open the newest message that you got from us, and use the whole link in it. "
                    "If that does not help, ask for a new message in your app.",
                ),
                "expired": Failed(
                    title="This link no longer works",
                    lead="For your safety a link works for a limited time, and only a few attempts are allowed. "
                    "Your email address is not confirmed yet.",
                    next_step="Go back to your app, ask for a new message, and open the link in it soon.",
                ),
                "unknown": Failed(
                    title="We do not know this link",
                    lead="It may be incomplete, very old, or meant for another server than {server}.",
                    next_step="Check that you opened the whole link. "
                    "If you did, go back to your app and ask for a new message.",
                ),
                "too_often": Failed(
                    title="Please wait a little",
                    lead="Too many requests have come to {server} from where you are. "
                    "Your email address is not confirmed yet.",
                    next_step="Try again in a few minutes: open the link in our message once more.",
                ),
            },
            "msisdn": {
                "incorrect": Failed(
                    title="This code does not match",
                    lead="It is not the one that {server} sent. Your phone number is not confirmed yet.",
                    next_step="Look for the newest text message that you got from us, and use the code in it. "
                    "If that does not help, ask for a new one in your app.",
                ),
                "expired": Failed(
                    title="This code no longer works",
                    lead="For your safety a code works for a limited time, and only a few attempts are allowed. "
                    "Your phone number is not confirmed yet.",
                    next_step="Go back to your app, ask for a new text message, and use the code in it soon.",
                ),
                "unknown": Failed(
                    title="We do not know this code",
                    lead="It may be incomplete, very old, or meant for another server than {server}.",
                    next_step="Check that you used the whole code or link. "
                    "If you did, go back to your app and ask for a new text message.",
                ),
                "too_often": Failed(
                    title="Please wait a little",
                    lead="Too many requests have come to {server} from where you are. "
                    "Your phone number is not confirmed yet.",
                    next_step="Try again in a few minutes: use the code in our text message once more.",
                ),
            },
        },
        close_page="You can close this page and go back to your app. It goes on from here.",
        continue_button="Continue",
        continue_host="This takes you to {host}.",
        next_step_heading="What you can do",
        footer="{server} is a Matrix identity server. "
        "It checks that people own the email addresses and phone numbers that they use on Matrix.",
    ),
    "fr": Wording(
        confirm={
            "email": Confirm(
                title="Confirmez votre adresse e-mail",
                lead="On a demandé à {server} de vérifier qu’une adresse e-mail est bien la vôtre. "
                "Ce lien y a été envoyé. Un clic, et c’est terminé.",
                button="Confirmer l’adresse e-mail",
                aside="Vous n’avez rien demandé ? Fermez cette page. "
                "Rien n’est confirmé tant que vous n’appuyez pas sur le bouton.",
            ),
            "msisdn": Confirm(
                title="Confirmez votre numéro de téléphone",
                lead="On a demandé à {server} de vérifier qu’un numéro de téléphone est bien le vôtre. "
                "Ce lien y a été envoyé. Un clic, et c’est terminé.",
                button="Confirmer le numéro",
                aside="Vous n’avez rien demandé ? Fermez cette page. "
                "Rien n’est confirmé tant que vous n’appuyez pas sur le bouton.",
            ),
        },
        verified={
            "email": Verified(
                title="Adresse e-mail confirmée",
                lead="Merci. {server} sait désormais que cette adresse e-mail est la vôtre.",
            ),
            "msisdn": Verified(
                title="Numéro de téléphone confirmé",
                lead="Merci. {server} sait désormais que ce numéro de téléphone est le vôtre.",
            ),
        },
        failed={
            "email": {
                "incorrect": Failed(
                    title="Ce lien ne correspond pas",
                    lead="Son code n’est pas celui que {server} a envoyé. "
                    "Votre adresse e-mail n’est pas encore confirmée.",
                    next_step="Ouvrez notre message le plus récent et utilisez le lien en entier. "
                    "Si cela ne suffit pas, demandez un nouveau message dans votre application.",
                ),
                "expired": Failed(
                    title="Ce lien n’est plus valable",
                    lead="Pour votre sécurité, un lien n’est valable qu’un temps et pour quelques essais. "
                    "Votre adresse e-mail n’est pas encore confirmée.",
                    next_step="Retournez dans votre application, demandez un nouveau message "
                    "et ouvrez son lien sans tarder.",
                ),
                "unknown": Failed(
                    title="Ce lien nous est inconnu",
                    lead="Il est peut-être incomplet, très ancien ou destiné à un autre serveur que {server}.",
                    next_step="Vérifiez que vous avez ouvert le lien en entier. "
                    "Si c’est le cas, retournez dans votre application et demandez un nouveau message.",
                ),
                "too_often": Failed(
                    title="Merci de patienter un peu",
                    lead="{server} a reçu trop de demandes depuis votre connexion. "
                    "Votre adresse e-mail n’est pas encore confirmée.",
                    next_step="Réessayez dans quelques minutes : ouvrez de nouveau le lien de notre message.",
                ),
            },
            "msisdn": {
                "incorrect": Failed(
                    title="Ce code ne correspond pas",
                    lead="Ce n’est pas celui que {server} a envoyé. "
                    "Votre numéro de téléphone n’est pas encore confirmé.",
                    next_step="Cherchez notre SMS le plus récent et utilisez son code. "
                    "Si cela ne suffit pas, demandez-en un nouveau dans votre application.",
                ),
                "expired": Failed(
                    title="Ce code n’est plus valable",
                    lead="Pour votre sécurité, un code n’est valable qu’un temps et pour quelques essais. "
                    "Votre numéro de téléphone n’est pas encore confirmé.",
                    next_step="Retournez dans votre application, demandez un nouveau SMS "
                    "et utilisez son code sans tarder.",
                ),
                "unknown": Failed(
                    title="Ce code nous est inconnu",
                    lead="Il est peut-être incomplet, très ancien ou destiné à un autre serveur que {server}.",
                    next_step="Vérifiez que vous avez utilisé le code ou le lien en entier. "
                    "Si c’est le cas, retournez dans votre application et demandez un nouveau SMS.",
                ),
                "too_often": Failed(
                    title="Merci de patienter un peu",
                    lead="{server} a reçu trop de demandes depuis votre connexion. "
                    "Votre numéro de téléphone n’est pas encore confirmé.",
                    next_step="Réessayez dans quelques minutes : utilisez de nouveau le code de notre SMS.",
                ),
            },
        },
        close_page="Vous pouvez fermer cette page et retourner dans votre application. La suite s’y passe.",
        continue_button="Continuer",
        continue_host="Vous irez sur {host}.",
        next_step_heading="Que faire ?",
        footer="{server} est un serveur d’identité Matrix. Il vérifie que les adresses e-mail "
        "et les numéros de téléphone utilisés sur Matrix appartiennent bien à leurs utilisateurs.",
    ),
    "de": Wording(
        confirm={
            "email": Confirm(
                title="E-Mail-Adresse bestätigen",
                lead="{server} soll prüfen, ob eine E-Mail-Adresse Ihnen gehört. "
                "Dieser Link wurde an sie geschickt. Ein Klick genügt.",
                button="E-Mail-Adresse bestätigen",
                aside="Das waren nicht Sie? Dann schließen Sie diese Seite. "
                "Ohne einen Klick auf den Knopf wird nichts bestätigt.",
            ),
            "msisdn": Confirm(
                title="Telefonnummer bestätigen",
                lead="{server} soll prüfen, ob eine Telefonnummer Ihnen gehört. "
                "Dieser Link wurde an sie geschickt. Ein Klick genügt.",
                button="Telefonnummer bestätigen",
                aside="Das waren nicht Sie? Dann schließen Sie diese Seite. "
                "Ohne einen Klick auf den Knopf wird nichts bestätigt.",
            ),
        },
        verified={
            "email": Verified(
                title="E-Mail-Adresse bestätigt",
                lead="Vielen Dank. {server} weiß jetzt, dass diese E-Mail-Adresse Ihnen gehört.",
            ),
            "msisdn": Verified(
                title="Telefonnummer bestätigt",
                lead="Vielen Dank. {server} weiß jetzt, dass diese Telefonnummer Ihnen gehört.",
            ),
        },
        failed={
            "email": {
                "incorrect": Failed(
                    title="Dieser Link passt nicht",
                    lead="Sein Code ist nicht der, den {server} geschickt hat. "
                    "Ihre E-Mail-Adresse ist noch nicht bestätigt.",
                    next_step="Öffnen Sie unsere neueste Nachricht und verwenden Sie den ganzen Link darin. "
                    "Hilft das nicht, fordern Sie in Ihrer App eine neue Nachricht an.",
                ),
                "expired": Failed(
                    title="Dieser Link gilt nicht mehr",
                    lead="Zu Ihrer Sicherheit gilt ein Link nur begrenzte Zeit und für wenige Versuche. "
                    "Ihre E-Mail-Adresse ist noch nicht bestätigt.",
                    next_step="Gehen Sie zurück in Ihre App, fordern Sie eine neue Nachricht an "
                    "und öffnen Sie den Link darin bald.",
                ),
                "unknown": Failed(
                    title="Diesen Link kennen wir nicht",
                    lead="Vielleicht ist er unvollständig, sehr alt oder für einen anderen Server als {server} "
                    "bestimmt.",
                    next_step="Prüfen Sie, ob Sie den ganzen Link geöffnet haben. "
                    "Wenn ja, fordern Sie in Ihrer App eine neue Nachricht an.",
                ),
                "too_often": Failed(
                    title="Bitte warten Sie ein wenig",
                    lead="Von Ihrem Anschluss kamen zu viele Anfragen an {server}. "
                    "Ihre E-Mail-Adresse ist noch nicht bestätigt.",
                    next_step="Versuchen Sie es in einigen Minuten noch einmal: "
                    "Öffnen Sie den Link in unserer Nachricht erneut.",
                ),
            },
            "msisdn": {
                "incorrect": Failed(
                    title="Dieser Code passt nicht",
                    lead="Es ist nicht der, den {server} geschickt hat. Ihre Telefonnummer ist noch nicht bestätigt.",
                    next_step="Suchen Sie unsere neueste SMS und verwenden Sie den Code darin. "
                    "Hilft das nicht, fordern Sie in Ihrer App eine neue an.",
                ),
                "expired": Failed(
                    title="Dieser Code gilt nicht mehr",
                    lead="Zu Ihrer Sicherheit gilt ein Code nur begrenzte Zeit und für wenige Versuche. "
                    "Ihre Telefonnummer ist noch nicht bestätigt.",
                    next_step="Gehen Sie zurück in Ihre App, fordern Sie eine neue SMS an "
                    "und verwenden Sie den Code darin bald.",
                ),
                "unknown": Failed(
                    title="Diesen Code kennen wir nicht",
                    lead="Vielleicht ist er unvollständig, sehr alt oder für einen anderen Server als {server} "
                    "bestimmt.",
                    next_step="Prüfen Sie, ob Sie den ganzen Code oder Link verwendet haben. "
                    "Wenn ja, fordern Sie in Ihrer App eine neue SMS an.",
                ),
                "too_often": Failed(
                    title="Bitte warten Sie ein wenig",
                    lead="Von Ihrem Anschluss kamen zu viele Anfragen an {server}. "
                    "Ihre Telefonnummer ist noch nicht bestätigt.",
                    next_step="Versuchen Sie es in einigen Minuten noch einmal: "
                    "Verwenden Sie den Code in unserer SMS erneut.",
                ),
            },
        },
        close_page="Sie können diese Seite schließen und in Ihre App zurückkehren. Dort geht es weiter.",
        continue_button="Weiter",
        continue_host="Sie gelangen zu {host}.",
        next_step_heading="Was Sie tun können",
        footer="{server} ist ein Matrix-Identitätsserver. Er prüft, ob E-Mail-Adressen und Telefonnummern, "
        "die auf Matrix verwendet werden, wirklich ihren Nutzern gehören.",
    ),
}
